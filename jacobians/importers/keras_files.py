"""stub"""


def from_keras_file(path): ...
