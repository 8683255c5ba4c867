"""Plans of compiled engines: their layers, precision, estimated latency and the verdict on INT8."""
