"""Walk-forward backtest of one model: windows, runner, results file."""
