from tests.unit.engine.conftest import broker, clock, store

__all__ = ["broker", "clock", "store"]
