"""The benchmark: how well is surplus sold, by any policy, on any series of hourly demand."""
