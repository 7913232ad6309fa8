"""The slow path: what creeps, or is too small for seconds to show, judged on blocks of a minute.

A block's levels are followed by forecasters; what these did not expect becomes a p-value, and p-values become evidence.
All of it works on arrays with one entry a stream, so that a month of many services can be simulated in minutes.
"""
