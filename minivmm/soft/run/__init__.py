"""KVM_RUN. loop.py is where it begins."""
