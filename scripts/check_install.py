"""Check that torch, torchvision and sam2 fit together; one clear line if they do not."""

from __future__ import annotations

import sys


def main() -> int:
    try:
        import sam2
        import torch
        import torchvision.ops
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(
            f"setup failed: torch, torchvision and sam2 do not fit together ({reason}); "
            "run 'make clean' and try again, with the versions of constraints.txt",
            file=sys.stderr,
        )
        return 1
    # Touching the operators proves that torchvision was built for this torch.
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    assert sam2.__file__
    return 0


if __name__ == "__main__":
    sys.exit(main())
