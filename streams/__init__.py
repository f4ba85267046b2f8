"""Windows, SLIs, the driver that runs stages on Faust, brokers and the analytical store."""
