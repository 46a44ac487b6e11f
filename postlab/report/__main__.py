"""`python -m postlab.report PROFILE`: write a profile's comparison from its run folders."""

from postlab.report.summary import main

raise SystemExit(main())
