"""`twinvec demo`: the whole of Twinvec on the real MNIST."""
