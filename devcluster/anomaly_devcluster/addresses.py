"""Who gets which loopback address.

Every cluster on a machine holds a slot, and with it two blocks of 65,536 addresses: `127.(64+slot).0.0/16` for the node
and its pods, `127.(128+slot).0.0/16` for Services. The slot is held by a listening socket on the node's address, so the
kernel frees it whatever becomes of the process.
"""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable

NODE_PORT = 10250
"""Where the node answers for logs and usage, as a kubelet does."""
SLOTS = 32


def node_address(slot: int) -> str:
    """Return the address of the slot's node."""
    return f"127.{64 + slot}.0.1"


def pod_block(slot: int) -> ipaddress.IPv4Network:
    """Return the block that pods get their addresses from."""
    return ipaddress.IPv4Network(f"127.{64 + slot}.0.0/16")


def service_block(slot: int) -> ipaddress.IPv4Network:
    """Return the block that Services are reachable in."""
    return ipaddress.IPv4Network(f"127.{128 + slot}.0.0/16")


def service_address(cluster_ip: str, slot: int) -> str:
    """Return where a Service is reached on this machine.

    A loopback cluster address is that place itself. A real API server gives out addresses that no process here could
    bind; their lower 16 bits are kept within the slot's block.
    """
    address = ipaddress.IPv4Address(cluster_ip)
    if address.is_loopback:
        return cluster_ip
    return str(service_block(slot)[int(address) & 0xFFFF])


def hold_slot() -> tuple[int, socket.socket]:
    """Take the first free slot; the slot is held as long as the returned listening socket lives.

    Raises OSError when all slots are taken.
    """
    for slot in range(SLOTS):
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            holder.bind((node_address(slot), NODE_PORT))
            holder.listen(128)
            return slot, holder
        holder.close()
    raise OSError(errno.EADDRINUSE, f"all {SLOTS} cluster slots are taken; end one with `devcluster down --name NAME`")


class Addresses:
    """Find free addresses of a block, and come back to a used one as late as possible."""

    def __init__(self, block: ipaddress.IPv4Network) -> None:
        self.block = block
        self._next = 10

    def free(self, taken: Callable[[str], bool]) -> str:
        """Return the next address that is not taken; raises OSError when all are."""
        for _ in range(self.block.num_addresses - 20):
            self._next = 10 + (self._next - 9) % (self.block.num_addresses - 20)
            address = str(self.block[self._next])
            if not taken(address):
                return address
        raise OSError(errno.EADDRNOTAVAIL, f"no address is left in {self.block}")


class PodAddresses(Addresses):
    """Give each pod an address of its own."""

    def __init__(self, block: ipaddress.IPv4Network) -> None:
        super().__init__(block)
        self._used: set[str] = set()

    def take(self, wanted: str | None = None) -> str:
        """Return a free address; `wanted` is what the pod has already, after a restart of the node."""
        mine = wanted and wanted not in self._used and ipaddress.IPv4Address(wanted) in self.block
        address = wanted if wanted and mine else self.free(self._used.__contains__)
        self._used.add(address)
        return address

    def release(self, address: str) -> None:
        """Give an address back."""
        self._used.discard(address)
