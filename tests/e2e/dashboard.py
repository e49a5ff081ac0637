"""The dashboard in a headless Chromium, against a server that replays states: what is shown, keyboard, phone, both themes, no contact.

Skips without a browser. FM_SHOTS=FOLDER keeps screenshots to look at.
"""
import json
import os
import subprocess
import tempfile
import threading
import time

from browser import Browser
from fake_server import Server
from serving import wait_until
from tap import run, test

PERIOD = 1  # POLL_MS of web/dashboard.js
BUILD = os.environ["FM_BUILD_ROOT"]
SHOTS = os.environ.get("FM_SHOTS")
MODELS = "document.querySelectorAll('#models tr').length === 8"


class Fake:
    def __enter__(self):
        self.server = Server()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server

    def __exit__(self, *arguments):
        self.server.shutdown()
        self.server.server_close()


def shot(browser, name):
    if SHOTS:
        browser.screenshot(os.path.join(SHOTS, name + ".png"))


def keys_of(value):
    """The form of a document: its keys, all the way down."""
    if isinstance(value, dict):
        return {key: keys_of(value[key]) for key in value}
    if isinstance(value, list):
        return [keys_of(value[0])] if value else []
    return None


def compare(fake, real, where="state"):
    if isinstance(fake, dict) and isinstance(real, dict):
        if where.endswith(("counts.drops", "log[0]")):
            return
        assert set(fake) == set(real), "%s: only in the stand-in %s, only in the encoder %s" % (where, set(fake) - set(real), set(real) - set(fake))
        for key in fake:
            compare(fake[key], real[key], where + "." + key)
    elif isinstance(fake, list) and isinstance(real, list) and fake and real:
        compare(fake[0], real[0], where + "[0]")


@test
def the_stand_in_speaks_as_the_encoder_does():
    with tempfile.TemporaryDirectory(prefix="fermata-sample-") as folder:
        subprocess.run([os.path.join(BUILD, "tests", "unit_engines_serve_state_document"), "sample"], check=True, timeout=60,
                       env={**os.environ, "FM_SAMPLE_OUT": folder}, stdout=subprocess.DEVNULL)
        with open(os.path.join(folder, "state.json"), encoding="utf-8") as file:
            real = json.load(file)
    with Fake() as server:
        fake = server.world.state()
    ready = [model for model in real["models"] if model["recent"]]
    real["models"] = ready
    fake["models"] = [model for model in fake["models"] if model["recent"]]
    compare(fake, real)
    assert {len(row) for row in fake["history"]} == {len(row) for row in real["history"]}
    assert {len(row) for row in fake["timeline"]["spans"]} == {len(row) for row in real["timeline"]["spans"]}


@test
def the_encoders_own_document_is_shown():
    with tempfile.TemporaryDirectory(prefix="fermata-sample-") as folder:
        subprocess.run([os.path.join(BUILD, "tests", "unit_engines_serve_state_document"), "sample"], check=True, timeout=60,
                       env={**os.environ, "FM_SAMPLE_OUT": folder}, stdout=subprocess.DEVNULL)
        with open(os.path.join(folder, "state.json"), encoding="utf-8") as file:
            document = json.load(file)
    with Fake() as server:
        server.world.state = lambda since=0, history=0: document
        with Browser() as browser:
            browser.open("http://127.0.0.1:%d/" % server.port, "document.querySelectorAll('#models tr').length === 3")
            text = browser.run("document.body.innerText")
            for part in ["resnet", "odd \"name\"", "no such operator", "Add 1 accelerator", "v18446744073709551615", "inference_failed"]:
                assert part in text, (part, text)
            assert not browser.problems(), browser.problems()


@test
def everything_is_shown():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
        browser.wait("document.querySelectorAll('#timeline-legend span').length > 4")
        text = browser.run("document.body.innerText")
        for part in ["Goodput", "resnet50", "whisper-encoder", "opset 23 is newer", "Ready", "inference-3", "No accelerator in time", "could go", "4be1c09a",
                     "inference_failed", "6 of 8 ready", "window in which it could start"]:
            assert part in text, (part, text)
        assert browser.run("$('goodput').querySelectorAll('path').length") >= 5
        assert browser.run("$('sizes').querySelectorAll('rect').length") >= 4
        painted = browser.run("(() => { const c = $('timeline'); return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length; })()")
        assert painted > 10000, painted
        assert not browser.problems(), browser.problems()
        shot(browser, "overview-light")


@test
def polls_ask_only_for_what_is_new():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
        browser.wait("view.history.length > 5 && view.since > 0")
        count = len([path for path in server.requests if path.startswith("/debug/state")])
        later, end = [], time.monotonic() + 60
        while len(later) < 2 and time.monotonic() < end:
            time.sleep(0.1)
            later = [path for path in server.requests if path.startswith("/debug/state")][count:]
        assert later and all("since=0&" not in path and "history=0" not in path for path in later), later
        # Nothing is asked for while the page is paused, but for what is under way when it is.
        browser.run("$('pause').click()")
        assert browser.run("$('status-text').textContent") == "Paused"
        before = len(server.requests)
        time.sleep(3 * PERIOD)  # what should not happen has no state to wait for
        assert len(server.requests) <= before + 1, server.requests[before:]
        before = len(server.requests)
        browser.run("$('pause').click()")
        browser.wait("$('status-text').textContent === 'Ready'")
        wait_until(lambda: len(server.requests) > before + 1, lambda: server.requests[before:])


@test
def nothing_comes_from_elsewhere():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
        browser.open("http://127.0.0.1:%d/try" % server.port, "document.querySelectorAll('#model option').length > 3")
        asked = [event["params"]["request"]["url"] for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
        outside = [url for url in asked if not url.startswith(("http://127.0.0.1:%d/" % server.port, "blob:", "data:", "about:"))]
        assert asked and not outside, outside


@test
def a_phone_and_dark_mode_fit():
    for name, width, dark in (("phone-light", 360, False), ("phone-dark", 360, True), ("tablet-dark", 820, True), ("overview-dark", 1440, True)):
        with Fake() as server, Browser(width=width, height=740, dark=dark, phone=width < 500) as browser:
            for page in ("", "try"):
                browser.open("http://127.0.0.1:%d/%s" % (server.port, page), MODELS if not page else "document.querySelectorAll('#model option').length > 3")
                wide = browser.run("Math.max(document.documentElement.scrollWidth, window.innerWidth)")
                assert wide <= width, (name, page, wide)
                ground = browser.run("getComputedStyle(document.body).backgroundColor")
                assert (ground == "rgb(14, 17, 22)") == dark, ground
                small = browser.run("[...document.querySelectorAll('button, select, a.try-link')].filter(n => n.offsetParent && n.getBoundingClientRect().height < 24).map(n => n.outerHTML.slice(0, 80))")
                assert not [row for row in small if "icon-button" in row or "try-link" in row], small
                shot(browser, name + ("-try" if page else ""))
            assert not browser.problems(), browser.problems()


def contrast(browser, selector):
    """Of a node's text with what is behind it, as WCAG counts it. A canvas turns whatever form a colour has into numbers."""
    return browser.run("""(() => {
      const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
      const node = document.querySelector(%s), above = [];
      for (let back = node; back; back = back.parentElement) above.unshift(getComputedStyle(back).backgroundColor);
      const luminance = (colors) => {
        for (const color of colors) { pen.fillStyle = color; pen.fillRect(0, 0, 1, 1); }
        const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
        return .2126 * r + .7152 * g + .0722 * b;
      };
      const [a, b] = [luminance(above), luminance([...above, getComputedStyle(node).color])].sort((x, y) => y - x);
      return (a + .05) / (b + .05);
    })()""" % json.dumps(selector))


@test
def colours_can_be_read():
    for dark in (False, True):
        with Fake() as server, Browser(dark=dark) as browser:
            browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
            browser.wait("!!document.querySelector('.log .error') && !!document.querySelector('#status.good')")
            for selector in (".sub", "h2", "#status", ".bar nav a", "[aria-current]", "td.reason", ".legend span", ".log .error .level", ".log .warning .level", ".log .pair em",
                             ".tile .more", ".try-link", ".facts dt", "td.name .about", "th", ".foot a"):
                got = contrast(browser, selector)
                assert got >= 4.5, (dark, selector, got)


@test
def the_keyboard_reaches_everything():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
        seen = []
        for _ in range(60):
            browser.key("Tab", 9)
            seen.append(browser.run("document.activeElement.id || document.activeElement.textContent || document.activeElement.tagName"))
        for part in ["Skip to the content", "pause", "theme", "chart-model", "Requests/s", "Try", "timeline", "log-level", "log-search", "Metrics"]:
            assert part in seen, (part, seen)
        # Sorting by a button, and the state of the column told to screen readers.
        browser.run("document.querySelector('#column-rate button').focus()")
        browser.key("Enter", 13, "\r")
        assert browser.run("$('column-rate').getAttribute('aria-sort')") == "descending"
        first = browser.run("document.querySelector('#models tr .title span').textContent")
        assert first in ("ranker", "resnet50"), first
        # Walking through batches.
        browser.run("$('timeline').focus()")
        browser.key("ArrowLeft", 37)
        label = browser.run("$('timeline').getAttribute('aria-label')")
        assert "batch of" in label and "ran" in label, label
        # Looking back in the chart.
        browser.run("document.querySelector('#goodput svg').focus()")
        for _ in range(3):
            browser.key("ArrowLeft", 37)
        assert " at " in browser.run("document.querySelector('#goodput svg').getAttribute('aria-label')")
        assert not browser.problems(), browser.problems()


@test
def names_for_screen_readers():
    with Fake() as server, Browser() as browser:
        for page in ("", "try"):
            browser.open("http://127.0.0.1:%d/%s" % (server.port, page), MODELS if not page else "document.querySelectorAll('#model option').length > 3")
            browser.call("Accessibility.enable")
            nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
            roles = {}
            for node in nodes:
                if not node.get("ignored"):
                    roles.setdefault(node["role"].get("value"), []).append(node.get("name", {}).get("value", ""))
            for role in ("button", "combobox", "link", "searchbox", "textbox", "image", "tab", "spinbutton"):
                assert all(roles.get(role, [])), (page, role, roles.get(role))
            assert roles.get("main") and roles.get("navigation"), sorted(roles)
            if not page:
                assert len(roles.get("columnheader", [])) == 10 and len(roles.get("row", [])) == 9, {key: len(value) for key, value in roles.items()}
        assert browser.run("document.documentElement.lang") == "en"


@test
def no_contact_is_said_and_ends():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
        server.broken = True
        browser.wait("!$('banner').hidden && $('status-text').textContent === 'No contact'")
        assert "503" in browser.run("$('banner').textContent")
        shot(browser, "no-contact")
        server.broken = False
        browser.wait("$('banner').hidden && $('status-text').textContent === 'Ready'")


@test
def a_token_is_asked_for_once():
    with Fake() as server, Browser() as browser:
        server.token = "s3cret"
        browser.open("http://127.0.0.1:%d/" % server.port, "!!document.querySelector('.token input')")
        assert browser.run("$('status-text').textContent") == "Locked"
        for value, then in (("wrong", "document.querySelector('.token')?.innerText.includes('does not take')"), ("s3cret", MODELS + " && $('banner').hidden")):
            browser.run("document.querySelector('.token input').value = '%s'; document.querySelector('.token button').click()" % value)
            browser.wait(then)
        browser.open("http://127.0.0.1:%d/try" % server.port, "document.querySelectorAll('#model option').length > 3")
        assert browser.run("localStorage.getItem('fermata-token')") is None
        shot(browser, "token")


@test
def filters_narrow_what_is_shown():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
        browser.wait("$('log').children.length === 5")
        browser.run("$('log-level').value = '3'; $('log-level').dispatchEvent(new Event('input'))")
        assert browser.run("$('log').children.length") == 1
        browser.run("$('log-search').value = 'nowhere'; $('log-search').dispatchEvent(new Event('input'))")
        assert browser.run("$('log-empty').innerText") == "No record fits."
        browser.run("$('chart-model').value = 'ranker\\u000014'; $('chart-model').dispatchEvent(new Event('change'))")
        browser.wait("goodput.rows.length > 0 && goodput.rows.length < 60")
        browser.run("$('theme').click()")
        assert browser.run("document.documentElement.dataset.theme") == "dark"


@test
def names_from_outside_are_text():
    with Fake() as server, Browser() as browser:
        bad = "<img src=x onerror=document.title='broken'>"
        state = server.world.state

        def hostile(since=0, history=0):
            document = state(since, history)
            for model in document["models"]:
                model["reason"] = bad
            document["models"][0]["name"] = bad
            document["server"]["host"] = bad
            document["log"] = [{"time": bad, "level": bad, "event": bad, bad: bad}]
            document["timeline"]["models"] = [bad] * 6
            return document

        server.world.state = hostile
        browser.open("http://127.0.0.1:%d/" % server.port, MODELS)
        assert bad in browser.run("document.body.innerText")
        assert browser.run("document.querySelectorAll('img[src=x]').length") == 0


@test
def json_is_sent_and_shown():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/try?model=ranker&version=14" % server.port, "document.querySelectorAll('#model option').length > 3")
        assert browser.run("page.model.name") == "ranker"
        assert '"shape": [1, 64],' in browser.run("$('json').value")
        assert browser.run("JSON.stringify(JSON.parse(pretty({a: [1, -2.5e-7, true], b: ['x', 'y, z'], c: [[1], []]})))") == '{"a":[1,-2.5e-7,true],"b":["x","y, z"],"c":[[1],[]]}'
        assert "features" in browser.run("$('ports').innerText") and "[any, 64]" in browser.run("$('ports').innerText")
        browser.run("$('timeout').value = '50'; $('send').click()")
        browser.wait("!!document.querySelector('.big')")
        assert browser.run("document.querySelector('.big').textContent") == "0.8312"
        path, headers, body = server.posts[-1]
        document = json.loads(body)
        assert path == "/v2/models/ranker/versions/14/infer" and document["parameters"]["timeout"] == 50000, (path, document)
        assert document["inputs"][0]["shape"] == [1, 64] and len(document["inputs"][0]["data"]) == 64
        browser.run("$('repeat').value = '10'; $('send').click()")
        browser.wait("$('times').innerText.includes('10 of 10')")
        browser.run("$('json').value = '{'; $('send').click()")
        assert "not JSON" in browser.run("$('json-error').textContent")
        # An error of the server in its words.
        browser.run("$('model').value = '0'; $('model').dispatchEvent(new Event('change')); setMode('json'); $('repeat').value = '1'; $('send').click()")
        browser.wait("!!document.querySelector('.failure')")
        assert "do not fill shape" in browser.run("document.querySelector('.failure').textContent")
        shot(browser, "try-error")


@test
def an_image_becomes_the_models_tensor():
    with Fake() as server, Browser() as browser:
        browser.open("http://127.0.0.1:%d/try?model=resnet50" % server.port, "document.querySelectorAll('#model option').length > 3")
        assert browser.run("page.mode") == "image"
        browser.run("""(async () => {
          const canvas = document.createElement('canvas'); canvas.width = 40; canvas.height = 20;
          const pen = canvas.getContext('2d'); pen.fillStyle = 'rgb(255, 0, 51)'; pen.fillRect(0, 0, 40, 20);
          await setFile(new File([await new Promise((done) => canvas.toBlob(done))], 'red.png', {type: 'image/png'}));
        })()""")
        browser.run("$('scale').value = 'unit'; $('send').click()")
        browser.wait("!!document.querySelector('.bars')")
        assert "golden retriever" in browser.run("$('outputs').innerText")
        path, headers, body = server.posts[-1]
        length = int(headers["Inference-Header-Content-Length"])
        document = json.loads(body[:length])
        assert document["inputs"][0]["shape"] == [1, 3, 224, 224], document
        assert document["outputs"] == [{"name": "class", "parameters": {"classification": 5}}], document
        import struct
        count = 224 * 224
        values = struct.unpack("<%df" % (3 * count), body[length:])
        assert values[0] == 1.0 and values[count] == 0.0 and abs(values[2 * count] - 0.2) < 1e-6, (values[0], values[count], values[2 * count])
        shot(browser, "try-image")
        # A pipeline that takes files gets the file.
        browser.run("$('model').value = String(page.models.findIndex((m) => m.name === 'ocr-pages')); $('model').dispatchEvent(new Event('change')); $('send').click()")
        browser.wait("$('outputs').innerText.includes('lazy dog')")
        path, headers, body = server.posts[-1]
        assert headers["Content-Type"] == "image/png" and body[:4] == b"\x89PNG", headers
        assert not browser.problems(), browser.problems()


run()
