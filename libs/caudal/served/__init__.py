"""The served port: the lines that servers logged, read back wherever they went."""

from caudal.served.port import LINE, MESSAGE, NotKept, Part, ServedLines

__all__ = ["LINE", "MESSAGE", "NotKept", "Part", "ServedLines"]
