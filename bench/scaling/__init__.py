"""Workers of torch.distributed -> strong and weak scaling, and a model of the all-reduce."""
