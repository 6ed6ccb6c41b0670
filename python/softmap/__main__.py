from softmap.cli import main

raise SystemExit(main())
