"""Runs the solved notebooks in JupyterLite in headless Chromium, and requires every cell and every check to be green.

    python scripts/lite_test.py --pyodide FOLDER [NN ...]

FOLDER holds a Pyodide distribution of the version that jupyterlite-pyodide-kernel expects: pyodide.mjs with its files,
and the wheels of numpy, matplotlib, pillow and what they need. Chromium is the program that CHROMIUM names or the first
that is found.
"""

import argparse
import functools
import http.server
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import build_site
from playwright.sync_api import TimeoutError, sync_playwright

HERE = build_site.SITE / "lite-test"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
START = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => {
        window.ran = panel.context.model.toJSON().cells;
    });
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def serve(folder):
    """A server of the folder, and its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def failures(cells):
    """What went wrong in a notebook that has run: errors, and check cells without a green line."""
    for cell in cells:
        outputs = cell.get("outputs", [])
        yield from (f"{cell['id']}: {o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error")
        checks = cell["metadata"].get("nbgrader", {}).get("grade")
        if checks and ": right." not in str(outputs):
            yield f"{cell['id']}: the check is not green"


def run(browser, address, stem, seconds):
    """Run one notebook in a page of its own; returns what went wrong."""
    page = browser.new_context().new_page()
    page.set_default_timeout(1000 * seconds)
    try:
        page.goto(f"{address}/lab/index.html?path={stem}.ipynb")
        page.wait_for_function(KERNEL)
        page.evaluate(START)
        page.wait_for_function("window.ran")
        return list(failures(page.evaluate("window.ran")))
    except TimeoutError as error:
        return [str(error).partition("\n")[0]]
    finally:
        page.context.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="NN", help="which notebooks (default: all)")
    parser.add_argument("--pyodide", type=Path, metavar="FOLDER", help="pyodide.mjs and the wheels of its distribution")
    parser.add_argument("--seconds", type=int, default=600, help="for a notebook (default: %(default)s)")
    arguments = parser.parse_args()
    if not arguments.pyodide or not (arguments.pyodide / "pyodide.mjs").is_file():
        sys.exit("PYODIDE must name a folder with pyodide.mjs and the wheels of its distribution (docs/browser.md).")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not chromium:
        sys.exit("No Chromium was found: install it, or let CHROMIUM name its program.")
    for folder in (HERE, build_site.LITE, build_site.SITE / "source"):
        shutil.rmtree(folder, ignore_errors=True)
    build_site.build_lite(HERE, arguments.pyodide.resolve(), build_site.solution, exposeAppInBrowser=True)
    server, address = serve(HERE)
    wrong = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for stem in build_site.NOTEBOOKS:
            if not arguments.numbers or stem[:2] in arguments.numbers:
                start = time.perf_counter()
                found = run(browser, address, stem, arguments.seconds)
                print(
                    f"{stem}: {'green' if not found else 'RED'}, {time.perf_counter() - start:.0f} s",
                    *found,
                    sep="\n  ",
                )
                wrong += bool(found)
    server.shutdown()
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
