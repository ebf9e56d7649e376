"""The two services, and the chassis that they share."""
