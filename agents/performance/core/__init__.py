"""Pure parts: forecasts, fleets on paper, and the choice between them."""
