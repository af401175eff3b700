"""Who is told of events, and how: subscriptions, channels, deliveries."""
