"""What all tests share: laws are not timed, since a busy machine is no reason for one to fail."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
