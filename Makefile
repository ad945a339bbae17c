.PHONY: demo
demo:
