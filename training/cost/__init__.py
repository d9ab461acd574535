"""What training costs: tokens, FLOPs, MFU, GPU-days, money. `formulas` first; `tables` are the report's."""
