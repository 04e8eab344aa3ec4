"""One thread for torch: the subjects here are tiny, and threads that wait for one another cost more than they give."""

import logging

import structlog
import torch

torch.set_num_threads(1)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
