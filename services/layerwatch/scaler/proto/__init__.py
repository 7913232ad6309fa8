"""KEDA's external scaler, as messages. `externalscaler_pb2` is generated: `python -m layerwatch.scaler.proto` writes it anew."""
