"""Pages in a headless browser: scripts, pointers, screens, and its console.

Tests talk to Chromium over two pipes, so that one Chromium serves all tests of
a process, and no driver is needed.
"""

import base64
import contextlib
import functools
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)


class Browser:
  """One Chromium with one tab."""

  def __init__(self, program=BROWSER):
    self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    theirs, self._out = os.pipe()
    self._in, ours = os.pipe()
    flags = (
      *("--headless=new", "--no-sandbox", "--hide-scrollbars"),
      *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
      *("--no-first-run", "--disable-extensions", "--remote-debugging-pipe"),
      f"--user-data-dir={self._folder.name}",
    )
    self._process = subprocess.Popen(
      # It reads from 3 and writes to 4.
      [
        *("bash", "-c", f'exec "$0" "$@" 3<&{theirs} 4>&{ours}', program),
        *flags,
        "about:blank",
      ],
      pass_fds=(theirs, ours),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(ours)
    self._numbers, self._rest, self._events = itertools.count(1), b"", []
    self._session = None
    (tab,) = [
      target
      for target in self.call("Target.getTargets")["targetInfos"]
      if target["type"] == "page"
    ]
    attached = self.call(
      "Target.attachToTarget", targetId=tab["targetId"], flatten=True
    )
    self._session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Log"):
      self.call(f"{domain}.enable")

  def close(self):
    with contextlib.suppress(OSError):
      self.call("Browser.close")
    os.close(self._out)
    os.close(self._in)
    self._process.wait(20)
    self._folder.cleanup()

  def call(self, method, **values):
    """The answer of the browser to a command of its protocol."""
    number = next(self._numbers)
    message = {"id": number, "method": method, "params": values}
    if self._session:
      message["sessionId"] = self._session
    data = json.dumps(message).encode() + b"\0"
    while data:
      data = data[os.write(self._out, data) :]
    while True:
      answer = self._read()
      if answer.get("id") == number:
        assert "error" not in answer, answer["error"]
        return answer["result"]
      self._events.append(answer)

  def _read(self):
    while b"\0" not in self._rest:
      data = os.read(self._in, 1 << 20)
      if not data:
        raise OSError("the browser is gone")
      self._rest += data
    message, _, self._rest = self._rest.partition(b"\0")
    return json.loads(message)

  def look(self, size=DESKTOP, *, dark=False):
    """Shows pages on a screen of this size, light or dark."""
    width, height = size
    self.call(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=size == PHONE,
    )
    scheme = {"name": "prefers-color-scheme"}
    scheme["value"] = "dark" if dark else "light"
    self.call("Emulation.setEmulatedMedia", features=[scheme])

  def open(self, path):
    """Opens a file on a light desktop, and waits until it is loaded."""
    self.look()
    self._events = []
    self.call("Page.navigate", url=f"file://{path.absolute()}")
    while not any(
      e.get("method") == "Page.loadEventFired" for e in self._events
    ):
      self._events.append(self._read())

  def run(self, script):
    """The result of a script on the page; it may be asynchronous."""
    answer = self.call(
      "Runtime.evaluate",
      expression=f"(async () => {{ {script} }})()",
      awaitPromise=True,
      returnByValue=True,
    )
    assert "exceptionDetails" not in answer, answer["exceptionDetails"]
    return answer["result"].get("value")

  def errors(self):
    """The errors of the page since it was opened."""
    found = []
    for event in self._events:
      values = event.get("params", {})
      if event.get("method") == "Runtime.exceptionThrown":
        found.append(values["exceptionDetails"].get("exception") or values)
      if event.get("method") == "Log.entryAdded":
        entry = values["entry"]
        if entry["level"] in ("error", "warning"):
          found.append(entry["text"])
      if values.get("type") in ("error", "assert"):
        found.append(values["args"])
    return found

  def point(self, x, y, *, press=False):
    """Moves the pointer to a position in the window, and presses."""
    mouse = functools.partial(self.call, "Input.dispatchMouseEvent", x=x, y=y)
    mouse(type="mouseMoved")
    if press:
      mouse(type="mousePressed", button="left", clickCount=1)
      mouse(type="mouseReleased", button="left", clickCount=1)

  def key(self, name):
    """Presses a key such as Tab or Enter."""
    text = {"Enter": "\r", " ": " "}.get(name, "")
    code = {"Enter": 13, "Tab": 9, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
    values = {"key": name, "windowsVirtualKeyCode": code[name]}
    self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
    self.call("Input.dispatchKeyEvent", type="keyUp", **values)

  def shot(self, path, *, whole=True):
    """Writes the visible page as a PNG file."""
    data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
    path.write_bytes(base64.b64decode(data["data"]))


@functools.cache
def browser():
  """The only browser of this process; it ends with the process."""
  import atexit

  one = Browser()
  atexit.register(one.close)
  return one


@functools.cache
def _axe():
  import axe_core_python

  return (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()


def complaints(page):
  """The accessibility problems that axe reports on an open page."""
  page.call("Runtime.evaluate", expression=_axe())
  return page.run("""
    const found = await axe.run();
    return found.violations.map((one) => [one.id, one.help,
      one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))]);
  """)
