"""Programs of the peers, written as their documentation shows. Each prints its measurement as JSON on its last line.

They import nothing of this project but the function that builds the model, so none of our optimizations speed them up.
"""
