"""What the installed models are turned into once a machine: `python -m workers.prepare`.

`make install` runs it, so that the first run need not wait: the bundled subject in safetensors, and the local LLM in a
form that is read faster. Whoever needs one of them and does not find it makes it.
"""

import sys

from schema.errors import GlossariumError
from schema.settings import load_settings
from workers.bundled import convert_bundled
from workers.local_llm import find_model, requantise


def main() -> int:
    """Prepare both and say where they are."""
    cache_dir = load_settings().cache_dir
    try:
        made = convert_bundled(cache_dir), requantise(find_model(), cache_dir / "llm")
    except GlossariumError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    sys.stdout.write("".join(f"{path}\n" for path in made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
