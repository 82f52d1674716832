"""What the programs share: the contract, the brokers and the stores. Knows no machine-learning library."""
