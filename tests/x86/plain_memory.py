"""Guest memory without a guest: a bytearray with the two methods that page tables need."""


class PlainMemory:
    """`size` bytes from guest-physical 0, filled with 0xEE so that a table nobody cleared is noticed."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.data = bytearray(b"\xee" * size)

    def read(self, gpa: int, size: int) -> bytes:
        if gpa < 0 or gpa + size > len(self.data):
            raise ValueError(f"no memory at {gpa:#x}")
        return bytes(self.data[gpa : gpa + size])

    def write(self, gpa: int, data: bytes) -> None:
        if gpa < 0 or gpa + len(data) > len(self.data):
            raise ValueError(f"no memory at {gpa:#x}")
        self.data[gpa : gpa + len(data)] = data

    def entry(self, gpa: int) -> int:
        return int.from_bytes(self.read(gpa, 8), "little")

    def change(self, gpa: int, *, set_bits: int = 0, clear_bits: int = 0) -> None:
        self.write(gpa, (self.entry(gpa) & ~clear_bits | set_bits).to_bytes(8, "little"))
