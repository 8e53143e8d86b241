"""What `rsis doctor` looks at: facts about the machine, and checks that turn them into findings.

`machine.inspect` collects the facts, `table.CHECKS` lists the checks. A check is a function of the facts alone, so a
test can give it any machine. Nothing here imports Keras, TensorFlow or ONNX Runtime in this process.
"""
