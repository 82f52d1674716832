"""Images of responses as PNG files, each named after itself and the label that it got."""

from __future__ import annotations

from fashion_client.answered_batches import AnsweredBatch
from fashion_client.file_names import image_name, label_name
from fashion_client.picture_folder import NamedPicture, PictureFolder


def save_images(answered: AnsweredBatch, folder: PictureFolder) -> None:
    """Write every image of a batch as `<name>-<label>.png`; what is there already is not written again.

    Raises: RequestRefused: the batch or its predictions cannot be read; SettingsInvalid: the folder does not take
        them; StoreUnavailable
    """
    folder.add(NamedPicture(image.pixels, image_name(image.image_id), label_name(image.label)) for image in answered)
