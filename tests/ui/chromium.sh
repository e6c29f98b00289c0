#!/usr/bin/env bash
# Prints the path of a Chromium that starts, and gets one first where there is none: the one named by HEADWATER_CHROMIUM, one on
# the PATH, one that playwright keeps, playwright's download, and last Debian's package where we are root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

starts() { [ -n "$1" ] && command -v "$1" >/dev/null && timeout 60 "$1" --version >/dev/null 2>&1; }

on_path() {
    local name
    for name in "${HEADWATER_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        if starts "$name"; then command -v "$name" && return 0; fi
    done
    return 1
}

of_playwright() {
    local path
    path="$(.venv/bin/python -c '
from playwright.sync_api import sync_playwright
with sync_playwright() as p:
    print(p.chromium.executable_path)')" && starts "$path" && echo "$path"
}

on_path && exit 0
of_playwright && exit 0
echo "no Chromium found: getting one for the browser tests" >&2
timeout 600 .venv/bin/playwright install chromium >&2 || true
of_playwright && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium >&2
    on_path && exit 0
fi
echo "the browser tests need Chromium: install it, or name it with HEADWATER_CHROMIUM=/path/to/chromium" >&2
exit 1
