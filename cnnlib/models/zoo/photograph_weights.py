"""The files of ImageNet weights that `keras.applications` would download, by the names of the models here."""

DOCUMENTATION = "https://keras.io/api/applications"

PHOTOGRAPH_WEIGHTS = {
    "resnet-50": "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "efficientnet-v2-s": "efficientnet_v2/efficientnetv2-s_notop.h5",
    "convnext-tiny": "convnext/convnext_tiny_notop.h5",
}
"""Below https://storage.googleapis.com/tensorflow/keras-applications/."""
