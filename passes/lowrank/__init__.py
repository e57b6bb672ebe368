"""Low rank: layers that become several smaller ones.

One file a pass, with the decomposition it uses: ``factorize-dense``, ``factorize-channels``,
``factorize-spatial``, ``factorize-tucker``, ``factorize-cp`` and ``factorize-embedding``; ``low-rank``
chooses among those of layers, with one budget for the whole model. What they share: ``layers`` says which
layers can be factorized, ``problem`` what an error in weights costs, ``allocate`` which rank a budget
gives to whom, ``fit`` fits factors layer by layer, ``write`` puts them into the graph.
"""
