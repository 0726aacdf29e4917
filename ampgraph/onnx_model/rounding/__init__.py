"""How constants become low: weights by what they meet, small numbers with what rounding took from them."""
