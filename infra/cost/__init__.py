"""What an environment costs a month, told before it is deployed."""
