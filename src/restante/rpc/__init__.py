"""The service of restante.proto over the engine, whoever carries its messages. Needs the extra ``grpc``."""
