"""Pages in a headless browser: what a script finds in one."""

import html
import json
import re
import shutil
import subprocess

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def after(path, script, wait=2000):
  """What a script returns on a page, with the errors that the page had.

  It runs in a copy of the page, once this is loaded; it may be asynchronous.
  """
  watched = (
    "<script>window.seen = []; console.error = (...x) =>"
    " seen.push(x.join(' ')); window.onerror = (m) => { seen.push(m) };"
    "</script>"
  )
  asked = f"""<script>
  addEventListener("load", async () => {{
    let found = {{}};
    try {{ found = await (async () => {{ {script} }})(); }}
    catch (error) {{ seen.push(String(error)); }}
    const place = document.createElement("pre");
    place.id = "found";
    place.textContent = JSON.stringify({{...found, errors: seen}});
    document.body.append(place);
  }});
  </script></body>"""
  text = path.read_text()
  text = text.replace("<head>", f"<head>{watched}", 1)
  head, _, tail = text.rpartition("</body>")
  copy = path.with_name(f"watched_{path.name}")
  copy.write_text(head + asked + tail)
  done = subprocess.run(
    [
      *(BROWSER, "--headless=new", "--no-sandbox", "--hide-scrollbars"),
      *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
      *("--window-size=1280,900", f"--virtual-time-budget={wait}"),
      f"--user-data-dir={path.parent / 'browser'}",
      *("--dump-dom", f"file://{copy}"),
    ],
    capture_output=True,
    text=True,
    timeout=120,
  )
  found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
  assert found, done.stderr[-2000:]
  return json.loads(html.unescape(found[1]))
