def hello(name):
    import platform

    return f"Hello {name} from {platform.node()}"
