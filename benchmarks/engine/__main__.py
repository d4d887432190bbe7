import sys

from benchmarks.engine.engine import main

sys.exit(main())
