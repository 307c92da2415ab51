"""tf.data with TFRecord files, as the guides of TensorFlow show."""
