"""A Chromium without a window that opens pages from files, and tells what they asked for and what went wrong in them."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVERS = ("chromedriver", "chromium-driver")
REQUIRED = "PAGES_BROWSER"
"""Where this is `required`, a missing browser is a failure and no reason to skip."""
WIDTH, HEIGHT = 1280, 1000


class Browser:
    """One process for many pages."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Load a page as a reader would, from its file; what the page before asked for and said is forgotten."""
        self.driver.get("about:blank")
        self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        self.driver.get(page.resolve().as_uri())

    def run(self, script: str, *values: object) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *values)

    def command(self, name: str, **values: object) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, values)

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))  # type: ignore[no-untyped-call]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Everything on the console: errors, warnings, refusals of the page's own policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def scheme(self, name: str) -> None:
        """What the system prefers: `light` or `dark`."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def window(self, width: int, height: int = HEIGHT) -> None:
        """As large as this, a phone where it is narrow."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path: Path) -> bytes:
        """The whole page as PNG."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16_000), "scale": 1}
        made = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        drawn = base64.b64decode(made["data"])
        path.write_bytes(drawn)
        return drawn


def started() -> Iterator[Browser]:
    """A browser as long as it is needed; skips where there is none, or fails where one is required."""
    binary, driver = (next(filter(None, map(shutil.which, names)), None) for names in (BROWSERS, DRIVERS))
    if binary is None or driver is None:
        missing = "no Chromium" if binary is None else "no chromedriver"
        told = f"{missing} was found: on Debian and Ubuntu apt-get install chromium chromium-driver"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(told)
        pytest.skip(told)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    words = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run"]
    words += ["--disable-background-networking", f"--window-size={WIDTH},{HEIGHT}"]
    if os.geteuid() == 0:  # Chromium's sandbox does not run as root
        words.append("--no-sandbox")
    for word in words:
        options.add_argument(word)
    chrome = webdriver.Chrome(service=Service(driver), options=options)
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()
