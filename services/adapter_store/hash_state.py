"""SHA-256 that can stop and go on in another process: the hash of a file whose parts arrive at many places.

hashlib keeps the state to itself. It lies in OpenSSL's SHA256_CTX, whose layout is in its public headers;
this is the libcrypto that Python itself is linked to. What comes out is checked against hashlib at start.
"""

import _hashlib  # for the path of Python's own OpenSSL
import ctypes
import hashlib

BLOCK_BYTES = 64


class _Context(ctypes.Structure):
    _fields_ = (
        ("h", ctypes.c_uint32 * 8),
        ("num_bits_low", ctypes.c_uint32),
        ("num_bits_high", ctypes.c_uint32),
        ("data", ctypes.c_uint32 * 16),
        ("num_buffered", ctypes.c_uint),
        ("digest_bytes", ctypes.c_uint),
        # Room to spare, should a build's be longer.
        ("_spare", ctypes.c_uint32 * 32),
    )


class Sha256:
    """One hash. `library` is OpenSSL's; see `load_library`."""

    def __init__(self, library: ctypes.CDLL, state: str = "", num_bytes: int = 0) -> None:
        """Goes on from `state` after `num_bytes`, a multiple of 64; begins if there are none."""
        assert num_bytes % BLOCK_BYTES == 0, f"{num_bytes} bytes have no state of their own"
        self._library = library
        self._context = _Context()
        library.SHA256_Init(ctypes.byref(self._context))
        if num_bytes:
            words = bytes.fromhex(state)
            for i in range(8):
                self._context.h[i] = int.from_bytes(words[4 * i : 4 * i + 4], "big")
            self._context.num_bits_low = num_bytes << 3 & 0xFFFFFFFF
            self._context.num_bits_high = num_bytes >> 29

    def update(self, data: bytes) -> None:
        """Hashes more bytes; other threads run meanwhile."""
        self._library.SHA256_Update(ctypes.byref(self._context), data, ctypes.c_size_t(len(data)))

    def state(self) -> str:
        """Where the hash stands, in hex; only after a multiple of 64 bytes."""
        assert not self._context.num_buffered, "in the middle of a block"
        return b"".join(word.to_bytes(4, "big") for word in self._context.h).hex()

    def hexdigest(self) -> str:
        """The digest; nothing may follow."""
        digest = ctypes.create_string_buffer(32)
        self._library.SHA256_Final(digest, ctypes.byref(self._context))
        return digest.raw.hex()


def load_library() -> ctypes.CDLL:
    """Python's own libcrypto. Raises OSError if it has no SHA-256 that can go on."""
    try:
        library = ctypes.CDLL(_hashlib.__file__)
        library.SHA256_Init.argtypes = [ctypes.c_void_p]
        library.SHA256_Update.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        library.SHA256_Final.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    except (AttributeError, OSError) as error:
        raise OSError(
            "blobs in object storage need a Python that is linked to OpenSSL's libcrypto (python.org's, "
            "Debian's and Docker's are)"
        ) from error
    first, rest = bytes(range(128)), b"the rest"
    half = Sha256(library)
    half.update(first)
    resumed = Sha256(library, half.state(), len(first))
    resumed.update(rest)
    if resumed.hexdigest() != hashlib.sha256(first + rest).hexdigest():
        raise OSError("the libcrypto of this Python lays its SHA-256 out in another way than is known")
    return library
