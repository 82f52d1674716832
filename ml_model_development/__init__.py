"""Train, evaluate and export the model that the ML service serves."""
