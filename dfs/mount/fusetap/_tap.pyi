from typing import Final, TypedDict

SLEEP: Final[int]
READY: Final[int]
YIELD: Final[int]

class Status(TypedDict):
    is_attached: bool
    error: int
    library: str
    flags_offered: int
    flags_agreed: int
    in_flight: int
    is_polling: bool
    request_count: int
    found_count: int
    vain_count: int
    sleep_count: int

def arm(flags_added: int, poll_ns: int, turn_ns: int, /) -> None: ...
def poll() -> int: ...
def last_request() -> bytes: ...
def notify(code: int, payload: bytes, /) -> None: ...
def is_in_front() -> bool: ...
def status() -> Status: ...
