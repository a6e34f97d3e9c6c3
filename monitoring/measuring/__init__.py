"""How each metric is measured: one function each, by subject. `moment.Moment` says when and about whom."""
