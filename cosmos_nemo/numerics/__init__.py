"""Numbers that training is made of: keyed randomness, averages of weights, learning-rate schedules."""
