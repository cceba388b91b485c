"""How is the picture in the documentation made? `python tests/integration/_picture.py` takes it again."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _chromium import running_chromium
from _shop import SHOP, written

PICTURE = Path(__file__).parents[2] / "docs" / "_static" / "page.png"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, running_chromium() as chromium, chromium.tab() as tab:
        tab.resize(1100, 720)
        tab.open(written(Path(directory), SHOP))
        tab.screenshot(PICTURE)
