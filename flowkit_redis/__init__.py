"""Storage on Redis and Valkey, for workers on many machines."""

from flowkit_redis.storage import RedisStorage, redis_storage

__all__ = ["RedisStorage", "redis_storage"]
