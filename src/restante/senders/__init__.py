"""Ways by which alerts are told: each module one, an ``AlertSender``."""
