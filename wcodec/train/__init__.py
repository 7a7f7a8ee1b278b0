"""Methods that train: they need torch (``pip install 'wcodec[torch]'``), and nothing that decodes needs them."""
