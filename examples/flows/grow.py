def grow(n):
    return n * 2
