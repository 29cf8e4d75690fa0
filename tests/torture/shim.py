"""A daemon under the shim of shim.c, which stands between it and its disk."""
from harness import BIN_DIR


class Shim:
    """What the shim shall do, told by a file that it reads again at each call."""

    def __init__(self, daemon, folder, match=""):
        libraries = list(BIN_DIR.glob("**/libtob_shim.so"))
        assert libraries, f"libtob_shim.so is not under {BIN_DIR}: build it with -DTOB_TESTS=ON"
        self.control, self.match = folder / "shim-control", match
        self.clear()
        daemon.env.update(LD_PRELOAD=str(libraries[0]), TOB_SHIM_DIR=str(daemon.state_dir), TOB_SHIM_CONTROL=str(self.control))

    def tell(self, **orders):
        """Replaces all orders by these: the keys of TOB_SHIM_CONTROL."""
        draft = self.control.with_suffix(".new")
        draft.write_text("".join(f"{name}={value}\n" for name, value in orders.items()))
        draft.replace(self.control)

    def delay(self, delay_ms):
        """From now on every sync takes so much longer."""
        self.tell(match=self.match, delay_ms=delay_ms)

    def full(self):
        """From now on there is no room."""
        self.tell(match=self.match, do="enospc")

    def clear(self):
        self.tell()
