"""Put the parts together, and serve them."""
