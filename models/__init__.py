"""The mathematics, in torch: likelihoods, posteriors, priors, networks, and the families made of them."""
